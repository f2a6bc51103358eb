"""Whetstone: an autonomous agent on your own model that gets sharper with use."""

import os

__version__ = "0.1.0"

# Nothing tells anybody how it is used. onnxruntime's own wheels do by default, over the network and with an id of the
# machine, and then wait for the upload when the process ends. It has to be said before a library is first imported.
for _name, _value in (
    ("ORT_DISABLE_TELEMETRY", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
):
    os.environ.setdefault(_name, _value)
