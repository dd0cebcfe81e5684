"""The accurate, heavy detector (PatchCore) that knows what good looks like."""
