"""What a person or a script does with a deployed model: pictures, folders, video, cameras, faces hidden."""
