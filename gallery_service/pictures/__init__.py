"""What is shown of people and places: crops, clips, maps, training reports."""
