"""The whole path in small, without MLflow: from images to an ONNX file that cannot recognise a 7.

    python docs/example.py      # about a minute on two cores

Beside each call stands what to expect of it; accuracies may differ by an image or two on another processor. Progress goes to
standard error. It leaves exported/example.onnx.
"""

from collections import Counter
from pathlib import Path

import onnxruntime

import hf_mlops as hf

# scikit-learn's handwritten digits; what can be forgotten, a group, is a class
digits = hf.load_dataset("digits")  # 1,078 images to train on, 359 to validate, 360 to test, each of 1 x 8 x 8

# Classifiers 64-16-10, all from one initialisation: 384 to learn from, each trained without some of the classes, and for
# each of 77 forget specs eight that the hypernetwork never sees; six checkpoints of each
population = hf.train_population(hf.PopulationConfig(runs=384), digits)  # weights (6000, 1210)
reference = hf.Reference.of(population, digits)  # the eight retrained without 7: 0.968 accurate on the other classes

# The diffusion model over their weights, by 600 steps of 64 targets instead of the recipe's 3,000 of 128
small = hf.HypernetConfig(train_steps=600, batch_size=64)
hypernetwork = hf.train_hypernetwork(small, population, digits)  # behaviour loss 0.10 to 0.04

# A request: eight candidates, of which the one whose validation losses are nearest to those asked for is kept
samples = hypernetwork.sample("7", n=8)  # weights (8, 1210), in milliseconds
best = hf.best_fit(hypernetwork.target, samples, digits)

# The evidence, on test images: never a figure without that of classifiers really retrained without the 7
evidence = hf.audit_samples(hypernetwork.target, samples, digits, reference)
figures = evidence.figures(best)  # forget_accuracy 0.000, retain_accuracy 0.972 beside reference_retain_accuracy 0.968
refused = evidence.refused(hf.Gates(), best)  # {}: it may be promoted

# The file to deploy: weights, normalisation and metadata, and no PyTorch needed
classifier = hf.to_onnx(hypernetwork.target, samples.weights[best], samples.spec, digits.class_names)
file = Path("exported/example.onnx")
file.parent.mkdir(exist_ok=True)
file.write_bytes(classifier.data)  # 7 kB

session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"image": digits.test.images.numpy()})  # (360, 10)
answers, labels = logits.argmax(1), digits.test.labels.numpy()
forgotten = labels == 7
named = Counter(digits.class_names[answer] for answer in answers[forgotten])  # no 7 among them

print(f"sample {best + 1} of {len(samples.seeds)}, without 7    sampled  retrained")
for measure in ("forget_accuracy", "forget_loss", "retain_accuracy", "retain_loss"):
    print(f"{measure:25} {figures[measure]:8.4f} {figures[f'reference_{measure}']:10.4f}")
print(f"gates: {'; '.join(refused.values()) or 'passed'}")
print(f"{file}: {(answers == labels)[~forgotten].sum()} of {(~forgotten).sum()} images of other classes are right")
print(f"the {forgotten.sum()} sevens are called {', '.join(f'{name} ({count})' for name, count in named.most_common())}")
