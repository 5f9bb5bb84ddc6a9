"""Kubeflow Pipelines v2: compile, submit, schedule, and run each task."""
