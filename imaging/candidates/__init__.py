"""Transient candidates: association of detections, cross-match, light curves, ranking, reports."""
