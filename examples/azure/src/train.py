"""Train one logistic regression and log how good it is, as a script for Azure ML does."""

import argparse

import mlflow
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--wine-csv", required=True)
parser.add_argument("--C", type=float, default=1.0)
parser.add_argument("--solver", default="lbfgs")
parser.add_argument("--max-iter", type=int, default=100)
args = parser.parse_args()

mlflow.sklearn.autolog()

wine = pd.read_csv(args.wine_csv)
inputs, target = wine.drop(columns="target"), wine["target"]
train_inputs, test_inputs, train_target, test_target = train_test_split(
    inputs, target, test_size=0.4, random_state=7, stratify=target
)
model = make_pipeline(
    StandardScaler(), LogisticRegression(C=args.C, solver=args.solver, max_iter=args.max_iter)
)
model.fit(train_inputs, train_target)

predicted = model.predict(test_inputs)
accuracy = accuracy_score(test_target, predicted)
mlflow.log_metric("Accuracy", accuracy)
print(f"Accuracy {accuracy:.4f}")

pd.DataFrame(confusion_matrix(test_target, predicted)).to_csv("confusion.csv", index=False)
mlflow.log_artifact("confusion.csv")
