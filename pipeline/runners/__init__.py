"""Where a pipeline runs: this machine, Kubeflow, a TFJob."""
