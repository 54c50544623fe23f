"""Parts from which the drawn try-on pairs are put together: canvas, garments, body, head."""
