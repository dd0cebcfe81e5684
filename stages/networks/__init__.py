"""The networks that several stages build, train and take apart: all that needs torch."""
