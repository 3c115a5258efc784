# SPDX-License-Identifier: GPL-2.0-only
"""What the tests need around them: root file systems, guests, and their output."""
