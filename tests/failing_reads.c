/* Loaded before the C library (LD_PRELOAD): reads of one file fail as those of a broken disk do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether a read of this descriptor is to fail: its path ends as FAILING_END says, and FAILING_WHILE exists. */
static int fails(int descriptor)
{
    const char *end = getenv("FAILING_END"), *flag = getenv("FAILING_WHILE");
    char link[64], path[PATH_MAX];
    if (!end || !flag || access(flag, F_OK))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t wanted = strlen(end);
    return (size_t)length >= wanted && !strcmp(path + length - wanted, end);
}

#define FAILING(name, result, descriptor, parameters, arguments) \
    result name parameters                                       \
    {                                                            \
        if (fails(descriptor)) {                                 \
            errno = EIO;                                         \
            return (result)-1;                                   \
        }                                                        \
        return ((__typeof__(&name))dlsym(RTLD_NEXT, #name)) arguments; \
    }

FAILING(read, ssize_t, file, (int file, void *into, size_t size), (file, into, size))
FAILING(pread, ssize_t, file, (int file, void *into, size_t size, off_t at), (file, into, size, at))
FAILING(pread64, ssize_t, file, (int file, void *into, size_t size, off64_t at), (file, into, size, at))
FAILING(preadv, ssize_t, file, (int file, const struct iovec *into, int many, off_t at), (file, into, many, at))
FAILING(preadv64, ssize_t, file, (int file, const struct iovec *into, int many, off64_t at), (file, into, many, at))
FAILING(preadv2, ssize_t, file, (int file, const struct iovec *into, int many, off_t at, int how),
        (file, into, many, at, how))
FAILING(preadv64v2, ssize_t, file, (int file, const struct iovec *into, int many, off64_t at, int how),
        (file, into, many, at, how))

size_t fread(void *into, size_t size, size_t many, FILE *file)
{
    if (fails(fileno(file))) {
        errno = EIO;
        return 0;
    }
    return ((__typeof__(&fread))dlsym(RTLD_NEXT, "fread"))(into, size, many, file);
}
