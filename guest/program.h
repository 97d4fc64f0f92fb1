/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of this program, replaced by another that has to prove itself:
 *
 *   lima-guestagent           what the service starts
 *   lima-guestagent.previous  the one before it, after an upgrade or a way back
 *   lima-guestagent.trial     there while a new one has not been confirmed: how often it has begun
 *   lima-guestagent.upload    on its way here
 *
 * Each step is one rename(), so whenever the machine stops there is a program to start. A program
 * on trial that begins PROGRAM_TRIES times without being confirmed is taken back by itself, as its
 * first act; one that runs but is not confirmed is taken back by who waits for that (upgrade.h).
 */
#pragma once

#include "base/error.h"

#define PROGRAM_TRIES 3

/* Where this program lies, or NULL. Caller frees. To be asked before it is replaced. */
char *program_path(void);
/* The name of a file beside @path: "previous", "upload". Caller frees. */
char *program_beside(const char *path, const char *what);

/* Puts the file @upload in the place of @path, which becomes the previous one. On trial. */
int program_replace(const char *path, const char *upload, struct error *err);
/* Lets @path and the previous one change places; nothing is on trial then. ENOENT: no previous. */
int program_go_back(const char *path, struct error *err);
/* The program at @path has proved itself. */
void program_confirm(const char *path);

enum program_state {
    PROGRAM_SETTLED,
    PROGRAM_ON_TRIAL, /* program_confirm() is due */
    PROGRAM_REPLACED, /* it had its tries: @path is another now, to be executed */
};

/* To be called once, first thing, by the program at @path. */
enum program_state program_settle(const char *path);
