"""How well images fit the captions and the attributes that they were made for."""
