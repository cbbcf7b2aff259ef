"""What a run would take before it is begun: `kd plan`, its probe, and `kd scaling`.

Work (`volume.py`) times measured rates (`rates.py`), laid out along the chain (`schedule.py`): `forecast.py`.
"""
