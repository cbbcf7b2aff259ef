"""Files, processes, devices and formatting; imports nothing else of kd."""
