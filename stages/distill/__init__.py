"""The compact student, taught by the teacher."""
