"""What the labs share: data sets, plots and measurements."""
