"""Poses: estimators, one person followed through a video, finished skeleton drawings, how good estimates are."""
