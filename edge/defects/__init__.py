"""What kind of defect it is: the labelled examples of a catalogue that lie nearest to its embedding."""
