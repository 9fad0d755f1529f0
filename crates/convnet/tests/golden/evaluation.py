"""Figures of an evaluation by scikit-learn 1.9 and NumPy, for crates/convnet/src/evaluate/tally.rs.

The logits of picture i and class c are ((i * 37 + c * 101 + i * c * 13) % 64) / 16, and 1.25 more for the class
(i * 5 + i // 7) % 6, which is the label.
"""

import numpy as np
from sklearn.metrics import log_loss, precision_recall_fscore_support, top_k_accuracy_score

N, CLASSES = 500, 6
i, c = np.arange(N)[:, None], np.arange(CLASSES)[None, :]
labels = (np.arange(N) * 5 + np.arange(N) // 7) % CLASSES
logits = ((i * 37 + c * 101 + i * c * 13) % 64) / 16
logits[np.arange(N), labels] += 1.25
p = np.exp(logits - logits.max(1, keepdims=True))
p /= p.sum(1, keepdims=True)
guess, confidence = p.argmax(1), p.max(1)
print("top1", (guess == labels).mean(), "top5", top_k_accuracy_score(labels, p, k=5), "loss", log_loss(labels, p))
for average in [None, "macro", "weighted"]:
    print(average, *precision_recall_fscore_support(labels, guess, average=average, zero_division=0)[:3], sep="\n  ")
ece = 0.0
for m in range(15):  # Guo et al. 2017, equations 2, 3 and 5
    inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
    if inside.any():
        ece += inside.mean() * abs((guess == labels)[inside].mean() - confidence[inside].mean())
print("expected calibration error", ece, "confidence", confidence.mean())
