"""What kind of defect it is: labelled examples of defects, and the stores that they are kept in."""
