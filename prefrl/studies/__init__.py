"""Many runs: grids, sweeps, comparisons, figures and reports."""
