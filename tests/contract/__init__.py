"""The suite that every tier passes."""
