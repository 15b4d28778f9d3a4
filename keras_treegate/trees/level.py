"""One level of nodes, a table of rows with a name of its own for them."""

from keras_treegate.tables.row_table import RowTable
from keras_treegate.types import Variable


class TreeLevel(RowTable):
    """The variables of one level of nodes.

    Its rows are the nodes, (N, W, Q), tree by tree.
    """

    @property
    def nodes(self) -> Variable:
        """The variable of the rows, as they were last written."""
        return self.values
