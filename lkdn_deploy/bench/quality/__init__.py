"""PSNR and SSIM of upscalers on test sets, as tables and pictures."""
