/* SPDX-License-Identifier: Apache-2.0 */
/* Running git for a call: its output read as it comes, or given to the client as it is. See api.h. */
#include "api.h"
#include "child.h"
#include "fsutil.h"

#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)

/*
 * Of a run that went well: does git itself mention an object that it could not read? Paths, names of attributes and of encodings
 * that it complains about are what somebody pushed, and may well have such words in them.
 */
static gboolean
mentions_loss (const char *said)
{
  static const char *const own[] = { "error: ", "fatal: ", "warning: " };
  static const char *const others[] = { " is not a valid attribute name: ", ": failed to encode '" };
  g_auto (GStrv) lines = g_strsplit (said, "\n", -1);
  for (char **line = lines; *line != NULL; line++)
    {
      char *first = strchr (*line, '\''), *last = strrchr (*line, '\'');
      gboolean judged = FALSE;
      for (gsize i = 0; i < G_N_ELEMENTS (own); i++)
        judged = judged || g_str_has_prefix (*line, own[i]);
      for (gsize i = 0; i < G_N_ELEMENTS (others); i++)
        judged = judged && strstr (*line, others[i]) == NULL;
      if (!judged)
        continue;
      if (first != last)
        memset (first, '\'', (gsize) (last - first));
      if (child_said_loss (*line))
        return TRUE;
    }
  return FALSE;
}

static gboolean
check (GitCall *call, Child *child, int status, GError **error)
{
  g_autoptr (GError) why = NULL;
  /* Some commands only mention what they could not read, and go on. */
  gboolean fine = child_check (child, status, &why);
  if (fine && !mentions_loss (child->err->str))
    return TRUE;
  if (fine)
    {
      g_autofree char *said = g_strchomp (g_utf8_make_valid (child->err->str, (gssize) child->err->len));
      return gs_fail (error, GS_ERROR_DATA_LOSS, "repository %" G_GUINT64_FORMAT " has a damaged or lost object: %s",
                      call->repo->id, said);
    }
  if (child_failure (status, why->message) == GS_ERROR_DATA_LOSS)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "repository %" G_GUINT64_FORMAT " has a damaged or lost object: %s",
                    call->repo->id, why->message);
  return gs_fail (error, (GsErrorCode) why->code, "repository %" G_GUINT64_FORMAT ": %s", call->repo->id, why->message);
}

/* Until its end, or until @visit has enough. */
static gboolean
read_output (GitCall *call, Child *child, int from, ApiOutput visit, gpointer user, gboolean *ret_enough, GError **error)
{
  g_autofree char *buffer = g_malloc (READ_BYTES);
  for (*ret_enough = FALSE; !*ret_enough;)
    {
      struct pollfd fds[3] = { { .fd = from, .events = POLLIN }, { .fd = child->err_fd, .events = POLLIN } };
      if (!call_poll (call->call, fds, 2, child->name, error))
        return FALSE;
      child_read_stderr (child);
      if (fds[0].revents == 0)
        continue;
      ssize_t got = read (from, buffer, READ_BYTES);
      if (got < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read from git %s", child->name);
      if (got == 0)
        return TRUE;
      if (!visit (user, buffer, (gsize) got, ret_enough, error))
        return FALSE;
    }
  return TRUE;
}

/* @input as a descriptor; -1 for none. */
static gboolean
input_fd (GBytes *input, int *ret_fd, GError **error)
{
  *ret_fd = input == NULL ? -1 : memory_fd (g_bytes_get_data (input, NULL), g_bytes_get_size (input), error);
  return input == NULL || *ret_fd >= 0;
}

/* ------------------------------------------------------------------------------------------- fields */

gboolean
api_fields_feed (ApiFields *fields, const char *data, gsize len, gboolean *ret_enough, GError **error)
{
  while (len > 0 && !*ret_enough)
    {
      const char *end = memchr (data, fields->separator, len);
      gsize part = end != NULL ? (gsize) (end - data) : len;
      gsize room = fields->max - fields->field->len;
      if (part > room && !fields->may_cut)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "git gave a line of more than %" G_GSIZE_FORMAT " bytes", fields->max);
      g_string_append_len (fields->field, data, (gssize) MIN (part, room));
      fields->cut += part - MIN (part, room);
      data += part;
      len -= part;
      if (end == NULL)
        break;
      data++;
      len--;
      if (!fields->visit (fields, fields->field->str, fields->field->len, ret_enough, error))
        return FALSE;
      g_string_truncate (fields->field, 0);
      fields->cut = 0;
    }
  return TRUE;
}

static gboolean
feed (gpointer user, const char *data, gsize len, gboolean *ret_enough, GError **error)
{
  return api_fields_feed (user, data, len, ret_enough, error);
}

/* ---------------------------------------------------------------------------------------------- run */

gboolean
api_run_as (GitCall *call, ChildSpec spec, GBytes *input, int *ret_status, ApiOutput visit, gpointer user, GError **error)
{
  Child child = { .err_fd = -1 };
  gboolean done, enough = FALSE;
  int out[2], status, made = -1;
  spec.git_dir = call->repo->dir;
  spec.output = spec.extra = -1;
  if (!input_fd (input, &made, error))
    return FALSE;
  if (made >= 0)
    spec.input = made;
  if (pipe2 (out, O_CLOEXEC) != 0)
    {
      done = fsu_fail (error, errno, "make a pipe for git %s", spec.argv[0]);
      out[0] = out[1] = -1;
    }
  else
    {
      spec.output = out[1];
      done = child_start (call->storage, &spec, &child, error);
      close (out[1]);
      done = done && read_output (call, &child, out[0], visit, user, &enough, error);
      close (out[0]);
    }
  if (done && !enough && (done = child_wait (&child, call->call, NULL, &status, error)))
    {
      if (ret_status != NULL && WIFEXITED (status) && WEXITSTATUS (status) <= 1 && !mentions_loss (child.err->str))
        *ret_status = WEXITSTATUS (status);
      else
        done = check (call, &child, status, error);
    }
  else if (done && ret_status != NULL)
    *ret_status = 0;
  child_clear (&child);
  if (made >= 0)
    close (made);
  return done;
}

gboolean
api_run (GitCall *call, const char *const *argv, GBytes *input, int *ret_status, ApiOutput visit, gpointer user,
         GError **error)
{
  const ChildSpec spec = { .role = CHILD_PLAIN, .argv = argv, .input = -1 };
  return api_run_as (call, spec, input, ret_status, visit, user, error);
}

/* Two processes, the first one's output the other's input. What the other could not be given it says nothing of: so both are
 * asked how they ended. */
gboolean
api_run_pair (GitCall *call, const char *const *first, GBytes *input, const char *const *second, ApiFields *fields,
              GError **error)
{
  ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = call->repo->dir, .argv = first, .input = -1, .output = -1, .extra = -1 };
  Child child = { .err_fd = -1 };
  int between[2], status = 0;
  gboolean done;
  if (!input_fd (input, &spec.input, error))
    return FALSE;
  if (pipe2 (between, O_CLOEXEC) != 0)
    {
      close (spec.input);
      return fsu_fail (error, errno, "make a pipe for git %s", first[0]);
    }
  spec.output = between[1];
  done = child_start (call->storage, &spec, &child, error);
  close (between[1]);
  if (spec.input >= 0)
    close (spec.input);
  fields->field = g_string_new (NULL);
  if (done)
    {
      const ChildSpec next = { .role = CHILD_PLAIN, .argv = second, .input = between[0] };
      done = api_run_as (call, next, NULL, NULL, feed, fields, error);
    }
  close (between[0]);
  g_string_free (fields->field, TRUE);
  fields->field = NULL;
  done = done && child_wait (&child, call->call, NULL, &status, error) && check (call, &child, status, error);
  child_clear (&child);
  return done;
}

gboolean
api_run_stream (GitCall *call, const char *const *argv, GBytes *input, GError **error)
{
  ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = call->repo->dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  Child child = { .err_fd = -1 };
  gboolean done;
  int status;
  if (!input_fd (input, &spec.input, error))
    return FALSE;
  spec.output = call->stream->open_output (call->stream, error);
  done = spec.output >= 0 && child_start (call->storage, &spec, &child, error);
  if (spec.output >= 0)
    close (spec.output);
  done = done && child_wait (&child, call->call, NULL, &status, error) && check (call, &child, status, error);
  child_clear (&child);
  if (spec.input >= 0)
    close (spec.input);
  return done;
}

gboolean
api_run_fields (GitCall *call, const char *const *argv, GBytes *input, int *ret_status, ApiFields *fields, GError **error)
{
  gboolean done;
  fields->field = g_string_new (NULL);
  done = api_run (call, argv, input, ret_status, feed, fields, error);
  if (done && fields->take_rest && fields->field->len > 0)
    {
      gboolean enough = FALSE;
      done = fields->visit (fields, fields->field->str, fields->field->len, &enough, error);
    }
  g_string_free (fields->field, TRUE);
  fields->field = NULL;
  return done;
}
