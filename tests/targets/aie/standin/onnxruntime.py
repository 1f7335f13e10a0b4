"""Stands in for ONNX Runtime with the Vitis AI provider: sessions that open, keep a cache and write a report.

STANDIN says how it behaves, words apart by spaces: slow (compiles for ever), broken (refuses the file), dropped (leaves
the provider out), cpu=N (N nodes on the CPU). REAL: the real module, which computes; set by the tests.
"""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

REAL = None
VITIS, CPU = "VitisAIExecutionProvider", "CPUExecutionProvider"
OPENED = []  # (options of the provider, entries of the session), in order


def get_available_providers():
    return [VITIS, CPU]


class SessionOptions:
    def __init__(self):
        self.entries = {}

    def add_session_config_entry(self, key, value):
        self.entries[key] = value


class InferenceSession:
    def __init__(self, path, options, providers):
        behaviour = os.environ.get("STANDIN", "").split()
        (name, given), *others = providers
        OPENED.append((given, options.entries))
        cache = Path(given["cache_dir"]) / given["cache_key"]
        if "slow" in behaviour:
            time.sleep(600)
        if "broken" in behaviour:
            raise RuntimeError("no kernel for\nthis node")
        cache.mkdir(parents=True, exist_ok=True)
        on_cpu = next((int(word.removeprefix("cpu=")) for word in behaviour if word.startswith("cpu=")), 0)
        stat = [
            {"name": "all", "nodeNum": 100},
            {"name": "CPU", "nodeNum": on_cpu},
            {"name": "NPU", "nodeNum": 100 - on_cpu},
        ]
        (cache / os.environ["XLNX_ONNX_EP_REPORT_FILE"]).write_text(json.dumps({"deviceStat": stat}))
        self.providers = others if "dropped" in behaviour else [name, *others]
        self.real = REAL.InferenceSession(path, providers=[CPU]) if REAL else None

    def disable_fallback(self):
        pass

    def get_providers(self):
        return self.providers

    def get_inputs(self):
        return self.real.get_inputs() if self.real else []

    def get_outputs(self):
        return self.real.get_outputs() if self.real else []

    def get_modelmeta(self):
        return self.real.get_modelmeta() if self.real else SimpleNamespace(custom_metadata_map={})

    def run(self, names, given):
        return self.real.run(names, given)
