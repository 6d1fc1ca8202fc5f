"""Drills: everything around us fails, and what was promised is held against a full recount of what is stored."""
