"use strict";

// The quest log, a prebuilt extension of JupyterLab that needs no build: a module-federation container written by hand.
// JupyterLab calls `init` with the modules that it shares, then `get` for the plugin.
(() => {
  const NAME = "solo-quest-log";
  const POLL_MS = 1000;
  const WIDE_ENOUGH = 1000; // pixels: on a narrower window the panel waits to be asked for
  const here = document.currentScript.src;
  let shared;

  async function load(name) {
    const versions = Object.values(shared[name] ?? {});
    const chosen = versions.find((version) => version.loaded) ?? versions[0];
    return (await chosen.get())();
  }

  async function plugin() {
    const [application, apputils, launcher, notebook, services, coreutils, statedb, ui, widgets] = await Promise.all(
      [
        "@jupyterlab/application",
        "@jupyterlab/apputils",
        "@jupyterlab/launcher",
        "@jupyterlab/notebook",
        "@jupyterlab/services",
        "@jupyterlab/coreutils",
        "@jupyterlab/statedb",
        "@jupyterlab/ui-components",
        "@lumino/widgets",
      ].map(load),
    );
    const icon = new ui.LabIcon({
      name: `${NAME}:icon`,
      svgstr: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="16">
        <path class="jp-icon3" fill="#616161" d="M6 2h11a2 2 0 0 1 2 2v18l-7.500-4L4 22V4a2 2 0 0 1 2-2zm5.500 3.500
        -1.500 3.200-3.500.5 2.600 2.400-.7 3.500 3.100-1.700 3.100 1.700-.7-3.500 2.600-2.400-3.500-.5z"/></svg>`,
    });
    const settings = services.ServerConnection.makeSettings();
    const address = (name) => coreutils.URLExt.join(settings.baseUrl, "solo", name);

    async function ask(name) {
      const answer = await services.ServerConnection.makeRequest(address(name), { cache: "no-store" }, settings);
      if (!answer.ok) throw new Error(answer.statusText);
      return answer;
    }

    // The panel: what the server sends as HTML, escaped there, and a line for what is under way.
    class QuestLog extends widgets.Widget {
      constructor(currentNotebook) {
        super();
        this.currentNotebook = currentNotebook;
        this.id = NAME;
        this.title.icon = icon;
        this.title.caption = "Quest log";
        this.addClass("solo-quest-log");
        this.node.setAttribute("role", "region");
        this.node.setAttribute("aria-label", "Quest log");
        this.node.tabIndex = -1;
        this.node.innerHTML = `<h1>Quest log</h1><p class="solo-news" role="status"></p><div class="solo-content"></div>
          <button type="button" class="jp-Button jp-mod-styled jp-mod-accept">The whole dashboard</button>`;
        [this.news, this.content, this.button] = this.node.querySelectorAll(".solo-news, .solo-content, button");
        this.follow();
      }

      async follow() {
        let seen;
        while (!this.isDisposed) {
          if (this.isVisible && !document.hidden) {
            try {
              const now = await (await ask("version")).json();
              this.tell(now);
              const notebook = this.currentNotebook();
              const wanted = `${now.version} ${notebook}`;
              if (wanted !== seen) await this.fill(notebook);
              seen = wanted;
            } catch {
              this.tell({ checking: null, told: "Not connected to the server; this is what was known last." });
            }
          }
          await new Promise((done) => setTimeout(done, POLL_MS));
        }
      }

      tell({ checking, told }) {
        const words = (checking ?? told ?? "").replaceAll("`", "");
        if (this.news.textContent !== words) this.news.textContent = words;
        this.news.classList.toggle("solo-checking", Boolean(checking));
      }

      async fill(notebook) {
        const html = await (await ask(`panel?notebook=${encodeURIComponent(notebook)}`)).text();
        const before = this.content.querySelector(".solo-rank")?.dataset.earned;
        this.content.innerHTML = html;
        const earned = this.content.querySelector(".solo-rank")?.dataset.earned;
        if (before !== undefined && earned && earned !== before) apputils.Notification.success(earned);
      }
    }

    function dashboard(theme) {
      const content = new widgets.Widget();
      const frame = document.createElement("iframe");
      frame.src = address("dashboard");
      frame.title = "Dashboard";
      const dress = () => {
        const root = frame.contentDocument?.documentElement;
        if (root && theme) root.dataset.theme = theme.isLight(theme.theme) ? "light" : "dark";
      };
      frame.addEventListener("load", dress);
      theme?.themeChanged.connect(dress);
      content.node.append(frame);
      content.addClass("solo-dashboard");
      const tab = new apputils.MainAreaWidget({ content });
      tab.id = `${NAME}-dashboard`;
      tab.title.label = "Dashboard";
      tab.title.icon = icon;
      tab.title.closable = true;
      tab.disposed.connect(() => theme?.themeChanged.disconnect(dress));
      return tab;
    }

    function addStyle() {
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = new URL("quest_log.css", here).href;
      document.head.append(link);
    }

    // Open at first, with the lab to its left; from then on as the learner left it.
    async function remember(shell, panel, restored, state) {
      const key = `${NAME}:panel`;
      const [before] = await Promise.all([state?.fetch(key), restored]);
      let open = before?.open ?? true;
      if (open && innerWidth >= WIDE_ENOUGH) {
        shell.activateById(panel.id);
        if (!before) shell.collapseLeft();
      }
      shell.layoutModified.connect(() => {
        if (innerWidth < WIDE_ENOUGH || panel.isVisible === open) return;
        open = panel.isVisible;
        state?.save(key, { open }); // an object, for JupyterLab drops what is false
      });
      if (!before) state?.save(key, { open });
    }

    return {
      id: `${NAME}:plugin`,
      description: "The quest log beside the notebook.",
      autoStart: true,
      requires: [application.ILabShell],
      optional: [apputils.ICommandPalette, launcher.ILauncher, notebook.INotebookTracker, apputils.IThemeManager, statedb.IStateDB],
      activate(app, shell, palette, launch, notebooks, theme, state) {
        addStyle();
        const panel = new QuestLog(() => notebooks?.currentWidget?.context.path ?? "");
        shell.add(panel, "right", { rank: 100 });
        remember(shell, panel, app.restored, state);

        let page;
        app.commands.addCommand("solo:quest-log", {
          label: "Quest log",
          caption: "Rank, next quest, and the exercises of this notebook",
          icon,
          execute() {
            shell.activateById(panel.id);
            panel.node.focus();
          },
        });
        app.commands.addCommand("solo:dashboard", {
          label: "Dashboard",
          caption: "All that you have done, and what comes next",
          icon,
          execute() {
            if (!page || page.isDisposed) page = dashboard(theme);
            if (!page.isAttached) shell.add(page, "main");
            shell.activateById(page.id);
          },
        });
        panel.button.addEventListener("click", () => app.commands.execute("solo:dashboard"));
        for (const [rank, command] of ["solo:quest-log", "solo:dashboard"].entries()) {
          palette?.addItem({ command, category: "PyTorch Solo Leveling" });
          launch?.add({ command, category: "PyTorch Solo Leveling", rank });
        }
      },
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = {
    init(scope) {
      shared = scope;
    },
    async get() {
      const made = await plugin();
      return () => ({ __esModule: true, default: made });
    },
  };
})();
