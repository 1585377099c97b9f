"""ByteTrack as ultralytics has it. Importing this module takes seconds, for it brings PyTorch along: workers have it
imported for them, once for all of them."""

from ingest.ultralytics_offline import prepare_ultralytics

prepare_ultralytics()

from ultralytics.trackers.byte_tracker import BYTETracker  # noqa: E402 only after ultralytics was set up

__all__ = ["BYTETracker"]
