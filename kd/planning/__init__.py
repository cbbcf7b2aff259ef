"""Forecast a run before it starts: `kd plan`, its probe, and `kd scaling`.

The kinds of stages forecast their work (`Kind.forecast`). Here it is multiplied by measured rates (`rates.py`), laid
out along the chain (`schedule.py`), added up (`forecaster.py`, `forecast.py`) and printed (`page.py`).
"""
