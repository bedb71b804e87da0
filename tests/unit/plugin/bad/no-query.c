/* SPDX-License-Identifier: Apache-2.0 */
/* The one function is not there. */
#include "../fake.h"
