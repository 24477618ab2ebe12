"""Evaluation: measures, suites, protocols, reports."""
