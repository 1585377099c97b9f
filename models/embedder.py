"""Crops in, embeddings out, with the model of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.bundle import INPUT, OUTPUT, Bundle
from models.onnx_session import Precision, make_session
from models.preprocess import to_batch


class Embedder:
    """Embeds crops with a bundle's ONNX graph.

    OpenVINO compiles the graph once for each batch size it meets (0.03 to 0.2 s for OSNet x0.25), so batches are padded
    with black crops to the next power of two: a handful of sizes, and a single query stays a batch of one.

    Args:
        bundle: a verified bundle, from :func:`models.bundle.load_bundle`.
        threads: CPU threads, None: all cores.
        precision: see :func:`models.onnx_session.make_session`.

    Attributes:
        dim: D.
        version: the bundle's version.
        input_size: (height, width) that crops are resized to.
        provider: the execution provider it really runs on, as ONNX Runtime calls it.

    Raises:
        models.onnx_session.SessionError: the graph cannot be opened.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, precision: Precision = "default") -> None:
        self.dim = bundle.embedding_dim
        self.version = bundle.version
        self.input_size = bundle.input_size
        self._session = make_session(bundle.model_path, threads=threads, precision=precision)
        self.provider: str = self._session.get_providers()[0]

    def embed(self, crops: Sequence[npt.NDArray[np.uint8]], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Embed crops of any size.

        Args:
            crops: (H, W, 3) uint8, BGR, each of its own size; may be none.
            batch_size: crops that go through the network at once.

        Returns:
            (N, D) float32, rows of length 1, in the order of the crops.

        Raises:
            ValueError: a crop that is not an image, batch_size < 1, or a model that gives no finite numbers.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        embeddings = np.empty((len(crops), self.dim), dtype=np.float32)
        for start in range(0, len(crops), batch_size):
            batch = to_batch(crops[start : start + batch_size], self.input_size)
            count = len(batch)
            padded = min(1 << (count - 1).bit_length(), batch_size)
            if padded > count:
                batch = np.concatenate((batch, np.zeros((padded - count, *batch.shape[1:]), dtype=np.float32)))
            embeddings[start : start + count] = self._session.run([OUTPUT], {INPUT: batch})[0][:count]
        # bfloat16 leaves lengths of 1 ± 0.004; cosine search relies on 1.
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not np.isfinite(norms).all():
            raise ValueError("the model's embedding of a crop is no finite number; export it again or promote another")
        np.divide(embeddings, norms, out=embeddings, where=norms > 0)
        return embeddings
