"""Leaves out the programs that tests run in processes of their own, with the backend that they need."""

collect_ignore = ["keras_against_torch.py", "keras_fit.py", "lightning_script.py", "trainer_runs.py"]
