/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_case.c - one conformance case of one plugin, in a process that may be lost. See plugin_check.h. */
#include "base/config.h"
#include "base/text.h"
#include "plugin/loader.h"
#include "plugin/options.h"
#include "plugin_check.h"

#include <engine.h>
#include <fakehost.h>

#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define RUNS_MAX 9
/* A cache that is larger is not filled by a test. */
#define CACHE_MAX (64 * G_GINT64_CONSTANT (1048576))

#define CROWD 3
#define FAULTS_MAX 3

/* How a run differs from the plain one. All zero: not at all. */
typedef struct
{
  guint interrupt; /* see ConformanceTarget, and so the next */
  guint crowd;
  guint host_fault;
  guint fault; /* which call layer/fault makes fail */
  const GsiPlugin *layer;
} Manner;

/* An instance that runs beside the one under test because that needs it. */
typedef struct
{
  const GsPlugin *plugin;
  FakeHost *host;
  GsiOptions *options;
  gpointer self;
  gboolean started;
} Needed;

static G_GNUC_NORETURN void
finish (json_t *report)
{
  char *text = json_dumps (report, JSON_COMPACT);
  gsize left = text != NULL ? strlen (text) : 0;
  for (const char *at = text; left > 0;)
    {
      gssize written = write (GSI_CASE_REPORT_FD, at, left);
      if (written <= 0)
        break;
      at += written;
      left -= (gsize) written;
    }
  /* What the plugin left for the end of the process is not asked any more. */
  _exit (left == 0 ? 0 : 1);
}

/* ----------------------------------------------------------------------------------------- options */

static const GsOption *
find_row (const GsPlugin *plugin, const char *key)
{
  for (const GsOption *row = plugin->options; row != NULL && row->key != NULL; row++)
    if (strcmp (row->key, key) == 0)
      return row;
  return NULL;
}

static void
append_value (GString *yaml, const GsOption *row, const char *text)
{
  g_auto (GStrv) parts = NULL;
  if (row == NULL || row->type != GS_OPTION_LIST || text[0] == '[')
    {
      if (row != NULL && row->type == GS_OPTION_LIST)
        g_string_append (yaml, text);
      else
        gsi_text_append_json (yaml, text, -1);
      return;
    }
  parts = g_strsplit (text, ",", -1);
  g_string_append_c (yaml, '[');
  for (char **part = parts; *part != NULL; part++)
    {
      g_string_append (yaml, part != parts ? ", " : "");
      gsi_text_append_json (yaml, *part, -1);
    }
  g_string_append_c (yaml, ']');
}

static void
append_option (GString *yaml, const GsOption *row, const char *key, const char *text)
{
  gsi_text_append_json (yaml, key, -1);
  g_string_append (yaml, ": ");
  append_value (yaml, row, text);
  g_string_append_c (yaml, '\n');
}

static gboolean
is_given (const char *const *given, const char *key)
{
  gsize n = strlen (key);
  for (; given != NULL && *given != NULL; given++)
    if (strncmp (*given, key, n) == 0 && (*given)[n] == '=')
      return TRUE;
  return FALSE;
}

/* What nobody gave: a place below @folder for paths that must be, and a cache that can be filled. */
static void
append_missing (GString *yaml, const GsPlugin *plugin, const char *const *given, const char *folder)
{
  for (const GsOption *row = plugin->options; row != NULL && row->key != NULL; row++)
    {
      g_autofree char *path = g_build_filename (folder, row->key, NULL);
      gint64 size = 0;
      if (is_given (given, row->key))
        continue;
      if (row->type == GS_OPTION_PATH && (row->flags & GS_OPTION_REQUIRED) != 0)
        append_option (yaml, row, row->key, path);
      else if (plugin->kind == GS_KIND_CACHE && row->type == GS_OPTION_SIZE && strcmp (row->key, "size") == 0
               && row->fallback != NULL && gsi_text_parse_size (row->fallback, &size, NULL) && size > CACHE_MAX)
        {
          g_autofree char *small = g_strdup_printf ("%" G_GINT64_FORMAT, MAX (row->min, 4 * 1048576));
          append_option (yaml, row, row->key, small);
        }
    }
}

/* Checked options, with "{tmp}" for @folder in what was given. NULL with every mistake in @error. */
static GsiOptions *
read_options (const GsPlugin *plugin, const char *const *given, const char *folder, GError **error)
{
  g_autoptr (GString) yaml = g_string_new (NULL);
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = NULL;
  g_autoptr (GsiOptions) options = NULL;
  for (const char *const *one = given; one != NULL && *one != NULL; one++)
    {
      const char *equals = strchr (*one, '=');
      g_autofree char *key = g_strndup (*one, (gsize) (equals - *one)), *value = NULL;
      g_auto (GStrv) around = g_strsplit (equals + 1, "{tmp}", -1);
      value = g_strjoinv (folder, around);
      append_option (yaml, find_row (plugin, key), key, value);
    }
  append_missing (yaml, plugin, given, folder);
  if (yaml->len == 0)
    g_string_append (yaml, "{}\n");
  config = gsi_config_parse ("--option", yaml->str, yaml->len, problems);
  options = gsi_options_new (plugin->options, gsi_config_root (config), plugin->name, NULL, problems);
  if (!gsi_problems_check (problems, error))
    return NULL;
  return g_steal_pointer (&options);
}

/* ------------------------------------------------------------------------------------------- needs */

static void
needed_free (Needed *needed)
{
  if (needed->started && needed->plugin->drain != NULL)
    needed->plugin->drain (needed->self);
  if (needed->started && needed->plugin->stop != NULL)
    needed->plugin->stop (needed->self);
  if (needed->self != NULL)
    needed->plugin->destroy (needed->self);
  gsi_options_free (needed->options);
  fake_host_free (needed->host);
  g_free (needed);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Needed, needed_free)

static Needed *
needed_new (const GsPlugin *plugin, const char *folder, GError **error)
{
  g_autoptr (Needed) needed = g_new0 (Needed, 1);
  needed->plugin = plugin;
  needed->host = fake_host_new (plugin->name);
  needed->options = read_options (plugin, NULL, folder, error);
  if (needed->options == NULL)
    return NULL;
  needed->self = plugin->create (&needed->host->host, gsi_options_config (needed->options), error);
  if (needed->self == NULL || (plugin->start != NULL && !plugin->start (needed->self, error)))
    return NULL;
  needed->started = TRUE;
  return g_steal_pointer (&needed);
}

/* The plugin that was named for a role, or whichever of the kind can be started as it is. */
static Needed *
find_needed (GsiLoader *loader, const GsiCaseRun *run, const GsNeed *need, const char *folder, GError **error)
{
  g_auto (GStrv) names = gsi_loader_names (loader, need->kind);
  g_autoptr (GError) last = NULL;
  gsize n_role = strlen (need->role);
  for (const char *const *one = run->needs; one != NULL && *one != NULL; one++)
    if (strncmp (*one, need->role, n_role) == 0 && (*one)[n_role] == '=')
      {
        const GsiPlugin *plugin = gsi_loader_load (loader, need->kind, *one + n_role + 1, error);
        return plugin != NULL ? needed_new (&plugin->plugin, folder, error) : NULL;
      }
  for (char **name = names; *name != NULL; name++)
    {
      g_autoptr (GError) why = NULL;
      const GsiPlugin *plugin = gsi_loader_load (loader, need->kind, *name, &why);
      Needed *needed = NULL;
      if (plugin != NULL && (plugin->plugin.needs == NULL || plugin->plugin.needs->role == NULL))
        needed = needed_new (&plugin->plugin, folder, &why);
      if (needed != NULL)
        return needed;
      if (why != NULL)
        {
          g_clear_error (&last);
          last = g_steal_pointer (&why);
        }
    }
  gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it needs a %s as “%s”, and none could be started%s%s",
           gsi_kind_name (need->kind), need->role, last != NULL ? ": " : "", last != NULL ? last->message : "");
  return NULL;
}

/* -------------------------------------------------------------------------------------------- runs */

static void
take_outcome (const ConformanceOutcome *outcome, gpointer user)
{
  static const char *const results[] = { "passed", "failed", "skipped" };
  json_t *report = user;
  json_object_set_new (report, "result", json_string (results[outcome->result]));
  json_object_set_new (report, "promise", json_string (outcome->promise));
  if (outcome->expected != NULL)
    json_object_set_new (report, "expected", json_string (outcome->expected));
  if (outcome->happened != NULL)
    json_object_set_new (report, "happened", json_string (outcome->happened));
}

/* One instance, one case, and everything put away again. */
static gboolean
run_once (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, const char *folder,
          const Manner *manner, json_t *report, GError **error)
{
  g_autofree char *nth = g_strdup_printf ("nth=%u", manner->fault);
  const char *const fault[] = { nth, "code=BUSY", NULL };
  g_autoptr (GsiOptions) layer_options = NULL;
  ConformanceLayer layer = { NULL, NULL };
  g_autoptr (FakeHost) host = fake_host_new (plugin->plugin.name);
  g_autoptr (GsiOptions) options = NULL;
  g_autoptr (GPtrArray) needs = g_ptr_array_new_with_free_func ((GDestroyNotify) needed_free);
  ConformanceTarget target = { .plugin = &plugin->plugin, .host = &host->host, .note = note, .interrupt = manner->interrupt,
                               .crowd = manner->crowd, .host_fault = manner->host_fault, .layers = &layer };
  g_mkdir_with_parents (folder, 0700);
  options = read_options (&plugin->plugin, run->options, folder, error);
  if (options == NULL)
    return FALSE;
  for (const GsNeed *need = plugin->plugin.needs; need != NULL && need->role != NULL; need++)
    {
      g_autofree char *name = g_strconcat ("need-", need->role, NULL), *home = g_build_filename (folder, name, NULL);
      Needed *needed;
      g_mkdir_with_parents (home, 0700);
      needed = find_needed (loader, run, need, home, (need->flags & GS_NEED_OPTIONAL) != 0 ? NULL : error);
      if (needed == NULL && (need->flags & GS_NEED_OPTIONAL) == 0)
        return FALSE;
      if (needed == NULL)
        continue;
      g_ptr_array_add (needs, needed);
      fake_host_add_need (host, need->role, need->kind, needed->self, needed->plugin->ops);
    }
  target.config = gsi_options_config (options);
  if (manner->fault > 0)
    {
      layer_options = read_options (&manner->layer->plugin, fault, folder, error);
      if (layer_options == NULL)
        return FALSE;
      layer = (ConformanceLayer){ &manner->layer->plugin, gsi_options_config (layer_options) };
      target.n_layers = 1;
      target.repeat_busy = TRUE;
    }
  return conformance_run (&target, (guint) run->number, take_outcome, report, error);
}

static gboolean
has_passed (const json_t *report)
{
  const char *result = json_string_value (json_object_get (report, "result"));
  return result != NULL && strcmp (result, "passed") == 0;
}

/* Runs a case that passed again. FALSE, with what was found in @report, when it does not pass now. */
static gboolean
run_again (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, const Manner *manner,
           json_t *report)
{
  static guint n_runs;
  g_autofree char *name = g_strdup_printf ("run-%u", ++n_runs), *folder = g_build_filename (run->folder, name, NULL);
  json_t *again = json_object ();
  gboolean passed = run_once (run, loader, plugin, note, folder, manner, again, NULL) && has_passed (again);
  /* In another manner a case may find that it says nothing: that does not count against what it said before. */
  gboolean plain = manner->interrupt == 0 && manner->crowd == 0 && manner->fault == 0 && manner->host_fault == 0;
  const char *result = json_string_value (json_object_get (again, "result"));
  if (!passed && result != NULL && (plain || strcmp (result, "failed") == 0))
    {
      json_object_update (report, again);
      if (manner->fault > 0)
        json_object_set_new (report, "happened", json_sprintf ("%s, after call %u had been made to fail by layer/fault",
                                                               json_string_value (json_object_get (again, "happened")),
                                                               manner->fault));
      if (manner->host_fault > 0)
        json_object_set_new (report, "happened", json_sprintf ("%s, when the host's pool was full",
                                                               json_string_value (json_object_get (again, "happened"))));
    }
  json_decref (again);
  return passed;
}

/* What each further run leaves behind is lost for good. */
static void
look_for_leaks (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, const Manner *manner,
                json_t *report)
{
  ConformanceUsage usages[RUNS_MAX];
  g_autofree char *grown = NULL;
  usages[0] = conformance_usage ();
  for (guint i = 1; i < RUNS_MAX; i++)
    {
      if (!run_again (run, loader, plugin, note, manner, report))
        return;
      usages[i] = conformance_usage ();
      g_free (grown);
      grown = conformance_growth (usages, i + 1);
      if (grown == NULL)
        return;
    }
  json_object_set_new (report, "result", json_string ("failed"));
  json_object_set_new (report, "promise", json_string ("P3"));
  json_object_set_new (report, "expected", json_string ("nothing left when the instance is destroyed"));
  json_object_set_new (report, "happened", json_sprintf ("each run of this case left %s behind%s", grown,
                                                         manner->interrupt != 0 ? ", its calls cancelled at first"
                                                         : manner->fault != 0   ? ", one of its calls made to fail"
                                                                                : ""));
}

/* Calls that are over before they begin: see ConformanceTarget.interrupt. */
static void
look_at_interruptions (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, json_t *report)
{
  const Manner delayed = { .interrupt = CONFORMANCE_DELAY_ALL }, cancelled = { .interrupt = CONFORMANCE_CANCEL_ALL };
  if (run_again (run, loader, plugin, note, &delayed, report) && run_again (run, loader, plugin, note, &cancelled, report))
    look_for_leaks (run, loader, plugin, note, &cancelled, report);
}

/* The first calls fail before they reach the plugin, one in each run. Without layer/fault there is nothing to look at. */
static void
look_at_faults (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, json_t *report)
{
  Manner manner = { .layer = gsi_loader_load (loader, GS_KIND_LAYER, "fault", NULL) };
  if (manner.layer == NULL)
    return;
  for (manner.fault = 1; manner.fault <= FAULTS_MAX; manner.fault++)
    if (!run_again (run, loader, plugin, note, &manner, report))
      return;
  manner.fault = 1;
  look_for_leaks (run, loader, plugin, note, &manner, report);
}

/* Beside itself, and with a host that turns work for its pool down. */
static void
look_at_others (const GsiCaseRun *run, GsiLoader *loader, const GsiPlugin *plugin, char *note, json_t *report)
{
  const Manner crowd = { .crowd = CROWD }, busy = { .host_fault = CONFORMANCE_HOST_FAULT_ALL };
  run_again (run, loader, plugin, note, &crowd, report);
  if (has_passed (report))
    run_again (run, loader, plugin, note, &busy, report);
}

static gboolean
has_calls (guint32 kind)
{
  return kind == GS_KIND_STORAGE || kind == GS_KIND_METADATA || kind == GS_KIND_CACHE || kind == GS_KIND_ACCESS;
}

static json_t *
describe (const GsiPlugin *plugin)
{
  json_t *cases = json_array ();
  guint n = conformance_n_cases (plugin->plugin.kind);
  for (guint i = 1; i <= n; i++)
    {
      const ConformanceCase *one = conformance_case (plugin->plugin.kind, i);
      json_array_append_new (cases,
                             json_pack ("{s:i, s:s, s:s}", "number", (int) i, "promise", one->promise, "title", one->title));
    }
  return json_pack ("{s:s, s:s, s:s, s:s, s:o}", "kind", gsi_kind_name (plugin->plugin.kind), "name", plugin->plugin.name,
                    "version", plugin->plugin.version, "threads", gsi_threads_name (plugin->plugin.threads), "cases", cases);
}

void
gsi_case_run (const GsiCaseRun *run)
{
  const struct rlimit no_core = { 0, 0 };
  g_autoptr (GsiLoader) loader = NULL;
  g_autoptr (GError) error = NULL;
  g_autofree char *folder = g_build_filename (run->folder, "run-0", NULL);
  const GsiPlugin *plugin;
  json_t *report = json_object ();
  const Manner plain = { .interrupt = 0 };
  gint64 began_us;
  char *note = mmap (NULL, CONFORMANCE_NOTE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, GSI_CASE_NOTE_FD, 0);

  /* A run that is broken off takes its cases along; a crash is what is looked for, not news for the system. */
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  setrlimit (RLIMIT_CORE, &no_core);
  if (note == MAP_FAILED)
    note = NULL;
  loader = gsi_loader_new (run->folders);
  plugin = gsi_loader_load_file (loader, run->file, &error);
  if (plugin == NULL)
    {
      json_object_set_new (report, "problem", json_string (error->message));
      finish (report);
    }
  if (run->number == 0)
    {
      g_autoptr (GsiOptions) options = read_options (&plugin->plugin, run->options, run->folder, &error);
      json_decref (report);
      report = describe (plugin);
      if (options == NULL)
        json_object_set_new (report, "usage", json_string (error->message));
      finish (report);
    }
  began_us = g_get_monotonic_time ();
  if (!run_once (run, loader, plugin, note, folder, &plain, report, &error) && !json_object_get (report, "result"))
    json_object_set_new (report, "cannot", json_string (error != NULL ? error->message : "no reason was given"));
  else if (has_passed (report) && g_get_monotonic_time () - began_us < run->patience_us)
    look_for_leaks (run, loader, plugin, note, &plain, report);
  if (has_passed (report) && has_calls (plugin->plugin.kind) && g_get_monotonic_time () - began_us < run->patience_us)
    look_at_interruptions (run, loader, plugin, note, report);
  if (has_passed (report) && has_calls (plugin->plugin.kind) && g_get_monotonic_time () - began_us < run->patience_us)
    look_at_faults (run, loader, plugin, note, report);
  if (has_passed (report) && g_get_monotonic_time () - began_us < run->patience_us)
    look_at_others (run, loader, plugin, note, report);
  finish (report);
}
