"""The tests as on an older processor: what the libraries choose by the processor is held to less.

    .venv/bin/python tests/older_processor.py avx2 tests/core/test_end_to_end.py

runs pytest with the given arguments. Sums are rounded in another order there, so that results
differ in their last digits, and what is ill-conditioned differs in more. Not held are TensorFlow's
Eigen, which is compiled for any processor with AVX, and JAX's matrix products.
"""

import os
import platform
import subprocess
import sys

# By variable: NumPy's, SciPy's and JAX's LAPACK; TensorFlow's and PyTorch's oneDNN, which
# TensorFlow's own layers use by default only where there is AVX-512; what XLA compiles; PyTorch.
LEVELS = {
    "avx2": {
        "OPENBLAS_CORETYPE": "Haswell",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "sse4": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
NEWER = {"avx2": ("AVX512", "X86_V4"), "sse4": ("AVX", "X86_V3", "X86_V4", "FMA3", "F16C")}


def newer_features(level):
    """What NumPy finds in this processor beyond a level, by name; it is not what NumPy needs."""
    import numpy as np

    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return [name for name in found if name.startswith(NEWER[level])]


def environment(level):
    """Variables under which a process computes as on a processor of a level."""
    held = LEVELS[level] | {"NPY_DISABLE_CPU_FEATURES": " ".join(newer_features(level))}
    return held | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {held['XLA_FLAGS']}"}


if __name__ == "__main__":
    level, *arguments = sys.argv[1:]
    command = [sys.executable, "-m", "pytest", *arguments]
    sys.exit(subprocess.run(command, env=os.environ | environment(level)).returncode)
