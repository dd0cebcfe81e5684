"""Pixel AUROC and AUPRO by other means than `evaluate`: the definition in loops, and scikit-learn, whose ROC curve of
pixels that weigh 1 / (pixels of their region) is the curve of per-region overlap."""

import itertools

import numpy as np
from scipy import ndimage
from sklearn import metrics as reference


def brute_force_aupro(maps, masks, limit):
    """AUPRO by its definition: a loop over every threshold and every region."""
    regions = []
    for i, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(i, labelled == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        above = maps >= threshold
        overlap = np.mean([above[i][region].mean() for i, region in regions])
        points.append((above[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def exact(maps, masks, limit=0.3):
    """The areas by scikit-learn, with every distinct value as a threshold."""
    weights = []
    for mask in masks:
        regions, _ = ndimage.label(mask, np.ones((3, 3)))
        weights.append((1 / np.bincount(regions.ravel()))[regions][mask])
    values = np.concatenate([map[~mask] for map, mask in zip(maps, masks, strict=True)])
    marked = np.concatenate([map[mask] for map, mask in zip(maps, masks, strict=True)])
    labels, scores = np.repeat([False, True], [values.size, marked.size]), np.concatenate([values, marked])
    weights = np.concatenate([np.ones(values.size), *weights])
    fpr, overlap, _ = reference.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    inside = fpr < limit
    x, y = np.append(fpr[inside], limit), np.append(overlap[inside], np.interp(limit, fpr, overlap))
    return {"pixel_auroc": reference.roc_auc_score(labels, scores), "aupro": reference.auc(x, y) / limit}
