"""Peaks of devices are those of the manufacturers' data sheets, without sparsity."""

from __future__ import annotations

import pytest

from kd.base.peaks import peak_flops

# Data sheets: H100 (SXM5: 1,979 TFLOP/s in bf16 and 989 in TF32 with sparsity), A100 (312 / 156 / 19.5), V100 (SXM2:
# 125 in fp16), MI250X (383 in bf16 and 95.7 in fp32 for two devices). The names are those that the drivers print.
PUBLISHED = [
    ("NVIDIA H100 80GB HBM3", "bf16", 1979 / 2),
    ("NVIDIA H100 80GB HBM3", "tf32", 989 / 2),
    ("NVIDIA H100 PCIe", "bf16", 756.0),
    ("NVIDIA GH200 120GB", "fp16", 1979 / 2),
    ("NVIDIA A100-SXM4-40GB", "bf16", 312.0),
    ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
    ("Tesla V100-SXM2-32GB", "fp16", 125.0),
    ("AMD Instinct MI250X", "bf16", 383 / 2),
    ("AMD Instinct MI250X", "fp32", 95.7 / 2),
    ("NVIDIA L40S", "bf16", 362.0),
    ("NVIDIA L40", "bf16", 181.0),
]


@pytest.mark.parametrize(("name", "precision", "tera"), PUBLISHED)
def test_a_peak_is_the_published_one(name: str, precision: str, tera: float) -> None:
    assert peak_flops(name, precision) == pytest.approx(tera * 1e12, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Tesla V100-SXM2-32GB", "bf16"),  # it has no bf16
        ("AMD Instinct MI250X", "tf32"),  # kd trains in TF32 on NVIDIA's only
        ("NVIDIA A100-SXM-64GB", "bf16"),  # Leonardo's own chip, faster than an A100
        ("NVIDIA GeForce GTX 1080", "fp32"),
        ("Intel(R) Xeon(R) Platinum 8358", "fp32"),
    ],
)
def test_what_no_data_sheet_says_is_not_guessed(name: str, precision: str) -> None:
    assert peak_flops(name, precision) is None
