"""Peak speed of devices in dense matrix products, by name and precision: the denominator of model FLOPs utilisation.

Figures are those that the manufacturers publish (NVIDIA's data sheets and architecture whitepapers, AMD's product pages
and data sheets), without sparsity. A form factor with its own figures has its own entry. A GPU that is not listed has
no utilisation, which is better than a wrong one.
"""

from __future__ import annotations

import re

TERA = 1e12


def _nvidia(half: float, tf32: float | None, fp32: float, *, bf16: bool = True) -> dict[str, float]:
    """Return the TFLOP/s of an NVIDIA GPU: tensor cores in half precision (fp32 sums) and TF32, others in fp32."""
    known = {"fp16": half, "bf16": half if bf16 else None, "tf32": tf32, "fp32": fp32}
    return {precision: peak for precision, peak in known.items() if peak is not None}


def _amd(fp16: float, fp32: float, bf16: float | None = None) -> dict[str, float]:
    """Return the TFLOP/s of an AMD GPU: matrix cores, also in fp32."""
    return {"fp16": fp16, "bf16": fp16 if bf16 is None else bf16, "fp32": fp32}


# Pattern in the driver's name of the device -> TFLOP/s; the first pattern that is found counts.
_PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    # NVIDIA, Blackwell and Hopper: data sheets of HGX B200, H200, H100 and GH200 (their figures with sparsity, halved)
    (r"\bB200\b", _nvidia(2250.0, 1125.0, 75.0)),
    (r"\bH[12]00 NVL\b", _nvidia(835.5, 417.5, 60.0)),
    (r"\bH100 PCIe\b", _nvidia(756.0, 378.0, 51.0)),
    (r"\b(H200|H100|GH200)\b", _nvidia(989.5, 494.5, 67.0)),
    # Ampere: data sheets of A100, A40, A30, A10. Leonardo's A100-SXM-64GB is another chip, without a data sheet.
    (r"\bA100-SXM-64GB\b", {}),
    (r"\bA100\b", _nvidia(312.0, 156.0, 19.5)),
    (r"\bA40\b", _nvidia(149.7, 74.8, 37.4)),
    (r"\bA30\b", _nvidia(165.0, 82.0, 10.3)),
    (r"\bA10\b", _nvidia(125.0, 62.5, 31.2)),
    # Ada: data sheets of L40S, L40, L4
    (r"\bL40S\b", _nvidia(362.0, 183.0, 91.6)),
    (r"\bL40\b", _nvidia(181.0, 90.5, 90.5)),
    (r"\bL4\b", _nvidia(121.0, 60.0, 30.3)),
    # GeForce: whitepapers of the Ada and Ampere (GA102) architectures, tensor cores with fp32 sums
    (r"\bRTX 4090(?! (D|Laptop))", _nvidia(165.2, 82.6, 82.6)),
    (r"\bRTX 3090(?! Ti)", _nvidia(71.0, 35.6, 35.6)),
    # Volta and Turing: data sheets of V100 and T4
    (r"\bV100S", _nvidia(130.0, None, 16.4, bf16=False)),
    (r"\bV100-PCIE", _nvidia(112.0, None, 14.0, bf16=False)),
    (r"\bV100", _nvidia(125.0, None, 15.7, bf16=False)),
    (r"\bT4\b", _nvidia(65.0, None, 8.1, bf16=False)),
    # AMD: data sheets. MI250X and MI250 are two devices each for ROCm, so each has half of the module's figures.
    (r"\bMI3(00X|25X)", _amd(1307.4, 163.4)),
    (r"\bMI300A", _amd(980.6, 122.6)),
    (r"\bMI250X", _amd(191.5, 47.85)),
    (r"\bMI250", _amd(181.05, 45.25)),
    (r"\bMI210", _amd(181.0, 45.3)),
    (r"\bMI100", _amd(184.6, 46.1, bf16=92.3)),
)


def peak_flops(name: str, precision: str) -> float | None:
    """Return the published FLOP/s of one device, as its driver names it, in a precision; None if it is not listed."""
    found = next((peaks for pattern, peaks in _PEAKS if re.search(pattern, name)), {})
    return found[precision] * TERA if precision in found else None
