/* Windows' own header, without what nobody here needs and the names that it takes away: min, max, small. */
#ifndef PENSTOCK_WIN32_H
#define PENSTOCK_WIN32_H

#include <stddef.h> /* elsewhere something, since C has no empty file */
#if defined(_WIN32)
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#include <windows.h>
#endif

#endif
