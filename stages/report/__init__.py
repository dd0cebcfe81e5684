"""Tables, plots and one page about every variant on every device."""
