"""Tree-structured conditional computation for Keras 3.

The layer of K. Cho and Y. Bengio, "Exponentially Increasing the
Capacity-to-Computation Ratio for Conditional Computation in Deep Learning"
(arXiv 1406.7362), on TensorFlow, JAX and PyTorch.
"""

from keras_treegate import callbacks as callbacks
from keras_treegate import credit as credit
from keras_treegate import distribution as distribution
from keras_treegate import gates as gates
from keras_treegate import layers as layers
from keras_treegate import losses as losses
from keras_treegate import optimizers as optimizers
from keras_treegate import plotting as plotting
from keras_treegate import transforms as transforms
from keras_treegate.saved_models import load_saved_model as load_saved_model
from keras_treegate.transforms import convert_embeddings as convert_embeddings
from keras_treegate.transforms import fold as fold
from keras_treegate.transforms import grow as grow
from keras_treegate.transforms import prune as prune
from keras_treegate.transforms import upcycle as upcycle

__version__ = "0.2.0.dev0"

__all__ = [
    "callbacks",
    "convert_embeddings",
    "credit",
    "distribution",
    "fold",
    "gates",
    "grow",
    "layers",
    "load_saved_model",
    "losses",
    "optimizers",
    "plotting",
    "prune",
    "transforms",
    "upcycle",
]
