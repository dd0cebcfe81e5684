"""What kind of defect it is: labelled defects as vectors of the exported file, judged by their nearest neighbours.

Writes artifacts/defects: result.json, embedded.npz, and the catalogue that a device reads (edge/defects). stores: what
keeps many of them.
"""
