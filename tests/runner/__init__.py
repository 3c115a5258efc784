# SPDX-License-Identifier: GPL-2.0-only
"""What the tests run on: root file systems, kernels and guests; and what reads their output."""
