"""Where tasks run. Every launcher executes `kd task --config HASH STAGE TASK`: a task cannot tell which one it was."""
