"""What a config trains and tests on besides registered datasets: files of pseudo labels."""
