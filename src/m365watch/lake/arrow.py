"""PyArrow's Parquet without the clients of four kinds of storage, of which the lake uses none.

They take 3 ms of a start. Whoever imports the library first decides that: all of the lake has it from here.
"""

from __future__ import annotations

from m365watch.lean import without

with without("pyarrow._azurefs", "pyarrow._gcsfs", "pyarrow._hdfs", "pyarrow._s3fs"):
    import pyarrow.parquet as pq

__all__ = ["pq"]
