"""Find the ultrasound on a scanner's screen and mask what is burned into it."""
