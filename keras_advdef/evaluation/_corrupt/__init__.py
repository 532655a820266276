"""Common corruptions of images: noise, blur, weather and digital processing."""
