"""The same sweep as sweep.yml, written with the azure-ai-ml SDK.

With azure-ai-ml installed, `raysweep run examples/azure/sdk.py` runs it.
"""

from pathlib import Path

from azure.ai.ml import Input, command
from azure.ai.ml.sweep import (
    BanditPolicy,
    Choice,
    LogUniform,
    QUniform,
    RandomSamplingAlgorithm,
)

import raysweep as rs

HERE = Path(__file__).parent

job = command(
    code=HERE / "src",
    command=(
        "python train.py --wine-csv ${{inputs.wine_csv}} --C ${{inputs.C}}"
        " --solver ${{inputs.solver}} --max-iter ${{inputs.max_iter}}"
    ),
    environment="AzureML-sklearn-1.5@latest",
    inputs={
        "wine_csv": Input(type="uri_file", path=str(HERE / "wine.csv")),
        "C": 1.0,
        "solver": "lbfgs",
        "max_iter": 100,
    },
    compute="cpu-cluster",
)
sweep_job = job(
    C=LogUniform(min_value=-9, max_value=2),
    solver=Choice(values=["lbfgs", "newton-cg", "saga"]),
    max_iter=QUniform(min_value=5, max_value=100, q=5),
).sweep(
    primary_metric="Accuracy",
    goal="Maximize",
    sampling_algorithm=RandomSamplingAlgorithm(rule="sobol", seed=7),
    compute="cpu-cluster",
)
sweep_job.set_limits(max_total_trials=8, max_concurrent_trials=2, timeout=3600)
sweep_job.early_termination = BanditPolicy(
    slack_factor=0.1, evaluation_interval=1, delay_evaluation=5
)
sweep_job.experiment_name = "wine"

sweep = rs.load(sweep_job, environments=HERE / "raysweep-environments.yml")

if __name__ == "__main__":
    print(sweep.run().best.params)
