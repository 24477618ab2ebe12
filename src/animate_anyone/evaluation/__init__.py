"""How good is it: measures, suites, reports."""
