"""Made heads and painted lesions."""
